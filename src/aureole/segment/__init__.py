"""Segmentation from few labelled scans, in 2-D and 3-D."""
