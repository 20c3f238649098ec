"""Segmentation from few labelled scans as a run: training, validation, and the judgement of the test scans."""

from aureole.training.segmentation.config import Segmenting
from aureole.training.segmentation.run import load_segmenter, run_segmenting

__all__ = ["Segmenting", "load_segmenter", "run_segmenting"]
