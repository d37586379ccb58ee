"""Controls: trainings and baselines that tell what an accuracy is made of."""
