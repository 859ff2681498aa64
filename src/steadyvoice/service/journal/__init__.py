"""Journal of outcomes: a file without texts of what each attempt, utterance and circuit did, to be replayed later."""
