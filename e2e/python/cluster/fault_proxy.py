"""A TCP proxy whose connections a test cuts, delays, stalls and starves while they are in use."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator

CHUNK_BYTES = 64 * 1024
RESET = struct.pack("ii", 1, 0)  # SO_LINGER without waiting: an end by RST


class FaultProxy:
    """Stands before a server on the loopback interface, in a thread of its own.

    Each fault lasts until `heal`. Connections that have lost bytes are cut then, because no TCP
    connection loses bytes and goes on.
    """

    def __init__(self, target_port: int):
        self.target_port = target_port
        self.attempts = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self._socket.getsockname()[1]
        self._connections: set[_Connection] = set()
        self._set_faults()
        self._loop = asyncio.new_event_loop()
        serving = asyncio.start_server(self._serve, sock=self._socket, limit=CHUNK_BYTES)
        self._loop.run_until_complete(serving)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self, share: float = 1.0) -> None:
        """Ends connections by a reset: all of them, or a share that is drawn."""
        self._call(lambda: [c.reset() for c in list(self._connections) if random.random() < share])

    def refuse(self) -> None:
        """Cuts all, and ends each new connection as soon as it is made."""
        self._call(lambda: self._set_faults(refuses=True))
        self.cut()

    def delay(self, seconds: float) -> None:
        """Passes everything on later, both ways."""
        self._call(lambda: self._set_faults(delay_s=seconds))

    def stall(self) -> None:
        """Passes nothing on, and loses nothing: a network that comes back before TCP gives up."""
        self._call(lambda: self._set_faults(flows=False))

    def trickle(self, bytes_per_s: int) -> None:
        """Passes on a few bytes at a time, both ways."""
        self._call(lambda: self._set_faults(bytes_per_s=bytes_per_s))

    def swallow(self) -> None:
        """Loses what comes from either side, and says nothing of it."""
        self._call(lambda: self._set_faults(loses_questions=True, loses_answers=True))

    def swallow_answers(self) -> None:
        """Requests arrive and take effect, and nobody learns of that."""
        self._call(lambda: self._set_faults(loses_answers=True))

    def heal(self) -> None:
        """Ends the fault."""
        self._call(self._heal)

    def close(self) -> None:
        """Ends the proxy and all its connections."""
        self.cut()
        self._call(self._loop.stop)
        self._thread.join(timeout=30)
        self._socket.close()

    def _call(self, what: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(what)

    def _set_faults(
        self,
        refuses: bool = False,
        delay_s: float = 0.0,
        flows: bool = True,
        bytes_per_s: int | None = None,
        loses_questions: bool = False,
        loses_answers: bool = False,
    ) -> None:
        self.refuses = refuses
        self.delay_s = delay_s
        self.bytes_per_s = bytes_per_s
        self.loses_questions = loses_questions
        self.loses_answers = loses_answers
        self.flows = flows
        if flows:
            self._wake_all()

    def _heal(self) -> None:
        self._set_faults()
        for connection in list(self._connections):
            if connection.has_lost:
                connection.reset()

    def _wake_all(self) -> None:
        for connection in self._connections:
            connection.may_flow.set()

    def _run(self) -> None:
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts += 1
        client = _Connection(writer)
        if self.refuses:
            client.reset()
            return
        self._connections.add(client)
        try:
            await self._pass_on(client, reader, writer)
        except (OSError, asyncio.CancelledError):
            # Either side is gone, or the proxy ends.
            pass
        finally:
            self._connections.discard(client)
            client.reset()

    async def _pass_on(self, connection, reader, writer) -> None:
        target = ("127.0.0.1", self.target_port)
        there, back = await asyncio.open_connection(*target, limit=CHUNK_BYTES)
        connection.writers.append(back)
        questions = self._pump(connection, reader, back, lambda: self.loses_questions, bytes)
        passed = self.altered()
        answers = self._pump(connection, there, writer, lambda: self.loses_answers, passed)
        await asyncio.gather(questions, answers)

    def altered(self) -> Callable[[bytes], bytes]:
        """What becomes of the bytes of one connection's answers."""
        return bytes

    async def _pump(self, connection, reader, writer, loses: Callable[[], bool], passed) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if loses():
                connection.has_lost = True
                continue
            for piece in self._pieces(passed(data)):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self.bytes_per_s:
                    await asyncio.sleep(len(piece) / self.bytes_per_s)
                while not self.flows:
                    connection.may_flow.clear()
                    await connection.may_flow.wait()
                writer.write(piece)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if not self.bytes_per_s:
            yield data
            return
        step = max(1, self.bytes_per_s // 20)
        for start in range(0, len(data), step):
            yield data[start : start + step]


class _Connection:
    """Both sides of what a client has opened."""

    def __init__(self, writer: asyncio.StreamWriter):
        self.writers = [writer]
        self.may_flow = asyncio.Event()
        self.has_lost = False

    def reset(self) -> None:
        self.may_flow.set()
        for writer in self.writers:
            with contextlib.suppress(OSError):
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
