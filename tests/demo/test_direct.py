from rehost.demo.direct import Reader, Sight
from rehost.demo.hosts import Manner
from rehost.demo.origin import origin

PAGE = "http://localhost:8000/"


def test_a_foreign_page_shows_what_its_hosts_like(world, posters, all_cases):
    with origin(world) as port:
        direct = Reader(port, PAGE, posters).look(all_cases)

    seen = {manner: {direct.sights[c.case_id] for c in all_cases if c.host and c.host.manner is manner and not c.fault}
            for manner in Manner}  # fmt: skip
    assert seen[Manner.OPEN] == seen[Manner.SLOW] == {Sight.PICTURE}
    assert seen[Manner.NO_FOREIGN] == seen[Manner.OWN_SITE] == seen[Manner.PAGE_WALL] == {Sight.BROKEN}
    assert seen[Manner.DECOY_WALL] == seen[Manner.REDIRECT] == seen[Manner.LAPSED] == {Sight.NOTICE}


def test_what_is_counted_does_not_depend_on_the_order(world, posters, all_cases):
    counts = []
    with origin(world) as port:
        for _ in range(2):
            direct = Reader(port, PAGE, posters).look(all_cases)
            counts.append([direct.count(sight) for sight in Sight])
            world.forget()

    assert counts[0] == counts[1]
    assert sum(counts[0]) == sum(case.link is not None for case in all_cases)


def test_links_at_fault_never_show(world, posters, all_cases):
    with origin(world) as port:
        direct = Reader(port, PAGE, posters).look([case for case in all_cases if case.fault])

    assert set(direct.sights.values()) == {Sight.BROKEN}
