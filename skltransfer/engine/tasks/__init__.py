"""What is learnt and answered, one file per task. Knows neither where activations come from nor estimators."""
