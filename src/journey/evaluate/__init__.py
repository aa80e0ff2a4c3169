"""What a model can do, in numbers: perplexity, choices, answers, an n-gram to beat, and the intervals around them."""
