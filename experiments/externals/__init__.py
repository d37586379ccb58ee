"""An external cohort meets frozen models: freeze, log, predict, score, and tell afterwards whether anything was touched."""
