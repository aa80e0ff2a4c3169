"""How numbers that several measures share are counted, in words that belong beside them."""

ANSWER_LOSS = "nats per token of the documented answer, its <|end|> included, in the chat format"
WORD_F1 = "F1 of the words that the greedy answer shares with the documented one, mean over questions"
WILSON = "Wilson's 95 % interval"
