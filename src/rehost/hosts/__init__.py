"""When a host may be asked: pace, pauses, shares between workers, a daily quota."""
