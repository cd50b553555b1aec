"""Makes a broken hub out of a good one: what a stream says is altered once on its way."""

from collections.abc import Callable

from cluster.fault_proxy import FaultProxy

Breaks = Callable[[list[bytes]], list[bytes] | None]


class BreakingProxy(FaultProxy):
    """Alters blocks of one stream, once `after` events have passed.

    `breaks` answers with the blocks to send instead, or None to be asked again with the next one
    added.
    """

    def __init__(self, target_port: int, breaks: Breaks, after: int):
        self.passed = 0
        self.has_broken = False
        self._breaks = breaks
        self._after = after
        super().__init__(target_port)

    def altered(self) -> Callable[[bytes], bytes]:
        return _Stream(self).take

    def blocks(self, held: list[bytes], block: bytes) -> list[bytes]:
        """What to send once a stream has got another block, and has held others back."""
        self.passed += 1
        if self.has_broken or (self.passed < self._after and not held):
            return [block]
        held.append(block)
        sent = self._breaks(list(held))
        if sent is None:
            return []
        held.clear()
        self.has_broken = True
        return sent


class _Stream:
    """The answer on one connection, whose chunks are packed anew."""

    def __init__(self, proxy: BreakingProxy):
        self._proxy = proxy
        self._is_stream = False
        self._raw = b""
        self._text = b""
        self._held: list[bytes] = []

    def take(self, data: bytes) -> bytes:
        head = b""
        if not self._is_stream:
            head, end, data_after = data.partition(b"\r\n\r\n")
            if b"content-type: text/event-stream" not in head:
                return data
            self._is_stream = True
            head, data = head + end, data_after
        self._raw += data
        return head + b"".join(b"%x\r\n%s\r\n" % (len(text), text) for text in self._texts())

    def _texts(self) -> list[bytes]:
        ends = False
        while (end := self._raw.find(b"\r\n")) >= 0:
            length = int(self._raw[:end], 16)
            if len(self._raw) < end + 4 + length:
                break
            self._text += self._raw[end + 2 : end + 2 + length]
            self._raw = self._raw[end + 4 + length :]
            ends = ends or length == 0
        *blocks, self._text = self._text.split(b"\n\n")
        passed = (self._proxy.blocks(self._held, block) for block in blocks)
        texts = [block + b"\n\n" for sent in passed for block in sent]
        if self._text.endswith(b":\n"):
            # A heartbeat, or the beginning: no part of a block.
            texts.append(self._text)
            self._text = b""
        return texts + [b""] * ends
