"""What every other part stands on: balls, objectives, the frozen model, random streams, errors, the method contract."""
