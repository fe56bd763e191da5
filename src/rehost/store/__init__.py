"""Copies at rest: the contract of a store, the names of copies, and the store on a disk."""
