"""What the policy writes about an observation before it acts: the next subtask, in the words of the prompt.

pi0.5 (arXiv 2504.16054): the text is written first, and the actions read it. The same stream answers questions of
vision-language data.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from crossroads.codecs.spec import Latent
from crossroads.codecs.text import TextCodec, TextTokens
from crossroads.streams import ViewKind
from crossroads.types import Batch


@dataclass(frozen=True, kw_only=True)
class SubtaskTokens(TextTokens):
    """A text that is written, with the embeddings of the text stream that this one ``shares``."""

    answer: bool = True

    def num_parameters(self, width: int) -> int:
        """None of its own."""
        return 0


def one_line(text: str) -> str:
    """A text as prompts are written: without underscores and line breaks (openpi)."""
    return text.strip().replace("_", " ").replace("\n", " ")


class SubtaskCodec(nn.Module):
    """The module of :class:`SubtaskTokens`, which goes ``through`` a text codec.

    A sample's answer is what must be written; where a sample with actions has none, its instruction is: data that
    name no subtasks call the whole instruction the next one. A sample with neither owes nothing.
    """

    def __init__(self, spec: SubtaskTokens, width: int) -> None:
        super().__init__()
        self.spec = spec
        self._text: list[TextCodec] = []  # a list: the module is registered once, under the text stream's name

    def through(self, text: nn.Module) -> None:
        """Use the embeddings of a text codec."""
        assert isinstance(text, TextCodec)
        self._text[:] = [text]

    def target(self, batch: Batch) -> Latent:
        """Words and the end mark, padded to the longest text of the batch."""
        acts = batch.actions_valid.any(dim=1).tolist()
        told = zip(batch.answer, batch.obs.text, acts, strict=True)
        texts = tuple(answer or (task if acting else "") for answer, task, acting in told)
        vocabulary = self.spec.vocabulary
        rows = [[*vocabulary.bare(one_line(text)), vocabulary.end] if text else [] for text in texts]
        return self._text[0].padded(rows, texts, self.spec.max_tokens)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.max_tokens,)

    def embed(self, latent: Int[Tensor, "b n"], level: Tensor) -> Float[Tensor, "b n w"]:
        return self._text[0].embed(latent, level)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n v"]:
        return self._text[0].read(hidden)

    def decode(self, latent: Int[Tensor, "b n"]) -> tuple[str, ...]:
        return self._text[0].decode(latent)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return self._text[0].grid(view, num_tokens)
