"""Judge a trained model under attacks: a finished run, or any model of the user's."""
