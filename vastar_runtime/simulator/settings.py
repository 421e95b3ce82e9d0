"""What the simulator is started with."""

import msgspec

from .faults import Fault

# With a piece of a word each, an answer of some fifty words then streams for about one second.
DEFAULT_TOKENS_PER_SECOND = 50.0


class SimulatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one simulator.

    Attributes:
        require_key: the key that every API demands, as its clients send it; None demands none.
        models: those that exist; () means that every name does.
        responses: the directory whose ``*.md`` files are the answers; None: the shipped texts are.
        echo: the answer is what the user said last; ``responses`` is None then.
        rai: chat completions are answered as the RAI endpoint simulator answers them.
        tokens_per_second: pieces of a stream in a second; 0 makes no pauses.
        first_token_ms: the time before the first piece, or before an answer in one piece.
        jitter: each pause is longer or shorter by up to this share of it; 0 to 1.
        fault: what goes wrong with every request without the header X-Simulate; None: nothing.
        seed: makes chance the same in every run; None: it differs.
    """

    require_key: str | None = None
    models: tuple[str, ...] = ()
    responses: str | None = None
    echo: bool = False
    rai: bool = False
    tokens_per_second: float = DEFAULT_TOKENS_PER_SECOND
    first_token_ms: int = 0
    jitter: float = 0.0
    fault: Fault | None = None
    seed: int | None = None
