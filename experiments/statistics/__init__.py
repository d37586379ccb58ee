"""Statistics of predictions: intervals, paired tests, calibration, utility. numpy and scipy alone; nothing here reads a file."""
