"""Statistics of predictions: intervals, paired tests, calibration, utility; numpy and scipy alone, no file is read."""
