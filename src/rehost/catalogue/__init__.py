"""The operator's tables: we read links and write one column."""

from rehost.catalogue.catalogue import TableCatalogue
from rehost.catalogue.table import Source
from rehost.catalogue.titles import Titles

__all__ = ["Source", "TableCatalogue", "Titles"]
