"""lm-eval's `local-completions`, which scores continuations and generates until a stop."""

import math

from harness import COMPLETIONS, case
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.utils import RemoteTokenizer


class Tokenizer(RemoteTokenizer):
    """The server's own `/tokenize` and `/detokenize`, without what only templates need."""

    tokenizer_info = {}
    eos_token = None

    def _validate_server(self):
        pass


def model(context, **more):
    address = context.url + COMPLETIONS
    model = LocalCompletionsAPI(base_url=address, model=context.model, tokenizer_backend=None,
                                max_retries=1, max_length=512, **more)
    model.tokenizer_backend, model.tokenized_requests = "remote", True
    model.tokenizer = Tokenizer(address)
    return model


def asked(kind, *arguments):
    return [Instance(kind, {}, pair, n) for n, pair in enumerate(arguments)]


@case
def continuations_are_scored(context):
    pairs = [("The capital of France is", " Paris"), ("One two three", " four five")]
    for more in ({}, {"batch_size": 2}, {"num_concurrent": 2}):
        scores = model(context, **more).loglikelihood(asked("loglikelihood", *pairs))
        assert len(scores) == 2
        for (score, greedy), (before, after) in zip(scores, pairs):
            assert isinstance(greedy, bool)
            assert math.isclose(score, scored(context, before, after), abs_tol=1e-3)


def scored(context, before, after):
    """The same sum from the reply itself."""
    ids = [context.post("/tokenize", {"prompt": text})[2]["tokens"] for text in (before, before + after)]
    body = {"model": context.model, "prompt": ids[1], "max_tokens": 1, "echo": True, "logprobs": 1}
    scores = context.post(COMPLETIONS, body)[2]["choices"][0]["logprobs"]["token_logprobs"]
    return sum(scores[len(ids[0]):-1])


@case
def texts_are_generated_until_a_stop(context):
    settings = {"until": ["three"], "max_gen_toks": 24, "temperature": 0}
    said = model(context).generate_until(asked("generate_until", ("one two three four", settings)))
    assert len(said) == 1 and "three" not in said[0]
    if context.is_mock:
        assert said == ["one two "]
