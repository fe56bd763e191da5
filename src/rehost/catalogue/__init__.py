"""The operator's tables: we read links and write one column."""

from rehost.catalogue.table import TableCatalogue
from rehost.catalogue.titles import Titles
from rehost.model import Source

__all__ = ["Source", "TableCatalogue", "Titles"]
