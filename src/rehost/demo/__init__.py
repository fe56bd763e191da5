"""The demonstration: a small library of cases, and hosts played on loopback that treat its links as real hosts do."""
