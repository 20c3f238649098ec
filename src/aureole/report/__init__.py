"""The report: run records and the files beside them in, one self-contained HTML page out."""

from aureole.report.page import report
from aureole.report.tables import refinement_tables, segmentation_table, text_table

__all__ = ["refinement_tables", "report", "segmentation_table", "text_table"]
