"""The sentences that explain: what each stage and each measurement is, to somebody who meets it for the first time."""

STAGES = {
    "text": (
        "The text is read from files on this machine, cut into documents, and split. Most is for training; a "
        "small <em>dev</em> part serves to choose settings, and a <em>test</em> part, on which nothing was "
        "trained or chosen, gives the numbers of this page. Near-copies stay on one side of the split: a "
        "model that has read a copy of a test document has seen the answer. What overlap remains is counted: "
        "the share of a held-out document's sequences of 13 words that the training split also has, and in "
        "how many documents that is more than half."
    ),
    "tokenizer": (
        "A model reads numbers, not letters. The tokenizer cuts text into pieces and numbers them. Byte-pair "
        "encoding starts from the 256 bytes and joins, again and again, the two neighbours that stand side by "
        "side most often, until the vocabulary is full. Longer pieces mean fewer steps for the same text."
    ),
    "prepare": (
        "The training text is turned into tokens once and kept on disk, so that training reads them from there: "
        "the text may be larger than the memory."
    ),
    "pretrain": (
        "The model starts from random weights and learns one thing: given the text so far, how likely is each "
        "next token. Whatever it knows of words, signatures and layout, it learned because it helps with "
        "that."
    ),
    "continue": (
        "The same training goes on with another text, mixed with some of the old one so that less of it is "
        "forgotten (<em>replay</em>)."
    ),
    "sft": (
        "Supervised fine-tuning shows the model questions and answers in a chat format. Only the answer's "
        "tokens, and the mark that ends it, count in the loss: the model learns to answer, not to ask."
    ),
    "import": (
        "The life did not begin here: the weights were trained elsewhere and read from a file. Nothing in that "
        "file is run. The tensors are renamed and laid out as Hugging Face's format has them, the chat format's "
        "marks join the vocabulary, and where the source can be rebuilt its predictions are compared with ours."
    ),
    "pairs": (
        "The model answers each question several times. A stated rule, not a person, scores every answer by how "
        "far it agrees with the documented one; the better of two answers is <em>chosen</em>, the other "
        "<em>rejected</em>, and pairs whose scores are nearly equal are dropped. If the chosen answers are "
        "simply the longer ones, the next stage learns to be long: so that is counted."
    ),
    "dpo": (
        "Direct preference optimization raises the odds of the chosen answer over the rejected one, measured "
        "against the model before (the <em>reference</em>, which stays as it was). There is no reward model: the "
        "reward is how much likelier an answer has become than under the reference. Before the first step "
        "both are the same model, so every pair stands at a tie and the loss is ln 2 = 0.693."
    ),
    "quantize": (
        "The same weights in fewer bits, as files that llama.cpp runs on a laptop or a phone. <em>f16</em> halves "
        "every number; <em>q8_0</em> and <em>q4_0</em> keep 8 or 4 bits a number and one scale for each 32 of "
        "them. Nothing is learned: the question is only how much the rounding costs."
    ),
    "index": (
        "A model holds little of a documentation in its weights, but it can be handed the right page. The text is "
        "cut into passages and made searchable in two ways: by words (<em>BM25</em>: rare words count more) and "
        "by meaning (<em>vectors</em>: passages that a small embedding model places near the question). The two "
        "lists are joined by rank, and what is found goes into the prompt."
    ),
}
BITS = (
    "How many bits the model needs, on average, for one byte of text it has never seen: a compressor with "
    "this model inside would need that many. Lower is better. Unlike perplexity it can be compared between "
    "models whose tokenizers differ. An <em>n-gram</em> model counts which token followed the last one "
    "(bigram) or two (trigram): it is the simplest thing a network has to beat, and on text that repeats "
    "itself the trigram is a hard mark."
)
CHANGED = (
    "Weights that learn something new are the weights that held the old. Each row is one stage against the model "
    "before it, on the same held-out items. Bits per byte below zero: it learned that text; above zero: it forgot some."
)
CHOICES = (
    "The model sees the signature of a held-out function and four summaries, of which one is its own. It "
    "picks the one it finds likeliest. Who guesses gets 25 % right. <em>acc_norm</em> divides each summary's "
    "log-probability by its length in characters, <em>acc</em> does not; both are lm-eval's conventions."
)
ANSWERS = (
    "How surprised is the model by the documented answer to a held-out question, per token, when the right "
    "passage stands before the question, when the passage of another question stands there, and when none "
    "does? If the right passage helps more than a wrong one, the model reads it."
)
ENDINGS = (
    "An answer should end. The share of answers in which the model itself writes a stop token within the "
    "limit, instead of running on."
)
F1 = (
    "The words that a greedy answer, given without a passage, shares with the documented one (F1: the harmonic mean "
    "of how many of its words are right and how many of the right words it has). It sees words, not truth."
)
LENGTH = (
    "How long the greedy answers are, the stop token included. Preference training is known to make answers longer."
)
PREFERENCES = (
    "Pairs of answers that the training never saw. The <em>implicit reward</em> of an answer is how much likelier it "
    "has become than under the reference; the <em>margin</em> is the chosen answer's less the rejected one's. Above "
    "zero the pair is told apart rightly. Who guesses gets 50 %."
)
QUANTIZED = (
    "The same held-out documents, scored by llama.cpp with each file and by our own code with the weights that the "
    "files were made of. A file is good when its bits per byte stay where they were."
)
RETRIEVAL = (
    "Each held-out question has one passage that answers it. Is it among the first five that the search finds "
    "(<em>Recall@5</em>), and how near the top (<em>MRR@10</em>: 1 when always first, ½ when always second)? "
    "Questions that name their function and questions that only describe it are counted apart."
)
HANDED = (
    "And what does it help? The loss of the documented answer when the model is handed the passage that was found, the "
    "right one, another question's, or none; and the words its own answer then shares with the documented one."
)
ANSWERING = (
    "One question of this run, from the search to the last token, to the scale of time. Reading the prompt "
    "(<em>prefill</em>) and writing the answer (<em>decode</em>) are two kinds of work: a prompt is known as a whole, "
    "so all of it goes through the model at once; each new token has to wait for the one before."
)
REPEATS = (
    "Random tokens, then the same tokens once more. Nothing can predict the first copy: guessing evenly would "
    "cost the logarithm of the vocabulary, and a model that is sure of the wrong thing pays more. The second "
    "is easy for a model that looks back to where the token stood before and copies what followed: "
    "<em>induction</em>, the smallest known circuit of learning in context."
)
HEADS = (
    "Mean attention of each head on those sequences. <em>Induction</em>: to the token after the earlier copy "
    "of this one. <em>Previous</em>: to the token just before. <em>Duplicate</em>: to the earlier copy "
    "itself. 1 would be a head that does nothing else; the stronger the colour, the nearer to 1."
)
INSIDE = "What a stage did to the model itself."
WEIGHTS = (
    "How far each weight matrix moved from the parent: the length of the difference over the length of the "
    "parent's matrix (Frobenius norms), in percent."
)
KL = (
    "How different the predictions are from the parent's: the mean Kullback-Leibler divergence from the "
    "parent's distribution to the child's at every token of held-out text. 0 means that nothing a reader "
    "could see has changed."
)
CKA = (
    "How alike the inner states of parent and child are, layer by layer, up to rotation and scale (linear CKA "
    "of the residual stream): 1 is the same geometry. Layer 0 is the embedding."
)
SAMPLES = (
    "A few prompts, each continued by every model with the same seed. One sample proves nothing: read them for "
    "what kind of text comes out, not for whether it is true. A model of this size knows shapes, not facts."
)
LINEAGE = (
    "Where everything came from. A node's id is the hash of all that went in: the stage's source, its "
    "settings, its parents, its data, the seed. The same inputs give the same id anywhere; the hash of the "
    "weights says what came out."
)
METHOD = """<ul class="plain">
<li><b>Three splits.</b> Training reads <em>train</em>; settings were chosen on <em>dev</em>; every number here
is from <em>test</em>, except the curves through training, which are from dev. Clusters of near-copies go to one
split as a whole.</li>
<li><b>Intervals.</b> Items (documents, questions, sequences) are drawn again 2,000 times with replacement, with
a fixed seed; the interval holds the middle 95 % of the results. Two models are compared on the same items in
every draw (paired), so what makes a document hard for both cancels. Shares of right or ended answers carry
Wilson's interval, because drawing again from 150 successes never gives a failure.</li>
<li><b>Verdicts.</b> <em>Clear</em>: the whole interval is on the better side of zero. <em>Worse</em>: on the
worse side. Otherwise <em>not distinguishable from zero</em>. {tested} effects are judged on this page; if none
were real, about {by_chance} of them would still fall outside zero by chance.</li>
<li><b>What the intervals leave out.</b> They say how the numbers would move with other test items. They do not
say how they would move with another training seed: each model was trained once.</li>
<li><b>One code path.</b> Every model was measured by the same functions on the same items{seconds}. A base
model is asked in the chat format too, though it has never seen it: that is the comparison.</li>
</ul>"""
