"""A replica at work: sockets, one model, and two threads that share them. What is asked and answered is doors.py's.

Threads. The model lives in one thread for all of its life: some libraries bind what they load to the thread that
loaded it. Sockets are polled by the main thread while the model computes. To hand a request from one thread to the
other and back costs about as much as all else that a short one needs; so once the model has proved to be quick, its
thread polls the sockets too, and the main thread only watches: when the model does not come back, it polls again. One
lock is held by whoever touches connections and the line; nobody holds it while waiting or inside the model.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType

from node_agent.serving import bodies
from node_agent.serving.answers import EVENTS, Counts, answer_of, error_event, piece_of, pieces_of
from node_agent.serving.batching import BatchLaw, BatchSettings, one_line, run_batch
from node_agent.serving.doors import Doors
from node_agent.serving.model import LoadedModel
from node_agent.serving.wire import BODY_LIMIT_BYTES, BODY_TIMEOUT_S, HIGH_WATER_BYTES, BodyBudget, Connection, Refused
from node_agent.serving.work import Call, Line, Piece, Stream, Task, Turn

# How long a stopping replica still answers on open connections, telling each to close: what was already on its way
# from a gateway arrives in this time.
LINGER_S = 0.2
STUCK_S = 60.0
SHORT_S = 0.0003  # a turn of the model that is worth less than two hand-overs between threads
SHORT_TURNS = 8  # so many in a row prove it quick
OVERSTAYED_S = 0.05  # then the main thread takes the sockets back
LOOK_S = 0.05
SWEEP_S = 1.0
ACCEPTED_A_TURN = 64
ACCEPT_PAUSE_S = 0.01
EXIT_STUCK = 1


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """`secret` None: anybody who reaches the socket may ask (a developer's own machine). `stuck_s`: so long the model
    may take for one turn; then the replica tells its callers and ends, for a thread cannot be made to stop."""

    secret: str | None = None
    batches: BatchSettings = field(default_factory=BatchSettings)
    stuck_s: float = STUCK_S
    linger_s: float = LINGER_S
    body_limit_bytes: int = BODY_LIMIT_BYTES


class ReplicaServer:
    """`run()` in the main thread and `serve()` in the model's, once the listeners listen."""

    def __init__(self, model: LoadedModel, listeners: Sequence[socket.socket], settings: ServerSettings) -> None:
        self._model = model
        self._settings = settings
        self._listeners = {each.fileno(): each for each in listeners}
        self._poll = select.epoll()
        self._kick = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._kick, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._budget = BodyBudget(settings.body_limit_bytes)
        self._lock = threading.Lock()
        self._model_wakes = threading.Semaphore(0)
        self._main_wakes = threading.Semaphore(0)
        self._line = Line(BatchLaw(settings.batches))
        self._counts = Counts()
        self._doors = Doors(model, settings.secret, settings.stuck_s, self._line, self._counts)
        self._turn: Turn | None = None  # in the model now
        self._turn_since_s = 0.0
        self._model_polls = False  # whose the sockets are
        self._model_sleeps = False
        self._short_turns = 0
        self._stopping_since_s: float | None = None
        self._ended = False
        self._swept_s = 0.0
        self._signals, self._tells = socket.socketpair()
        for listener in listeners:
            listener.setblocking(False)

    # ---- the main thread -------------------------------------------------------------------------------------------

    def run(self, on_listening: Callable[[], None] = lambda: None) -> None:
        """Until it was asked to go by SIGTERM or SIGINT and everybody has been answered. `on_listening` is called once
        both are heard."""
        for end in (self._signals, self._tells):
            end.setblocking(False)
        before = signal.set_wakeup_fd(self._tells.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _heard_by_wakeup)
        with self._lock:
            self._poll.register(self._signals.fileno(), select.EPOLLIN)
            for descriptor in self._listeners:
                self._poll.register(descriptor, select.EPOLLIN)
        try:
            on_listening()
            while not self._ended:
                if self._model_polls:
                    self._watch_the_model()
                else:
                    self._poll_once(self._timeout_s(), main=True)
                self._end_if_stuck()
        finally:
            signal.set_wakeup_fd(before)
            self._model_wakes.release()

    def _watch_the_model(self) -> None:
        """It has the sockets. Take them back when it stays in a turn: somebody must answer /-/health."""
        if self._main_wakes.acquire(timeout=LOOK_S):
            return
        with self._lock:
            if self._turn is not None and time.monotonic() - self._turn_since_s > OVERSTAYED_S:
                self._model_polls = False
                self._short_turns = 0

    def _timeout_s(self) -> float | None:
        """None where nothing can become due unless something comes."""
        now_s = time.monotonic()
        if self._stopping_since_s is not None:
            return max(0.01, min(SWEEP_S, self._stopping_since_s + self._settings.linger_s - now_s))
        if self._turn is not None or self._line.waiting or self._line.streams:
            return min(SWEEP_S, self._settings.stuck_s / 4)
        return SWEEP_S if self._connections else None

    def _end_if_stuck(self) -> None:
        with self._lock:
            turn, since_s = self._turn, self._turn_since_s
            if turn is None or time.monotonic() - since_s < self._settings.stuck_s:
                return
            said = f"the model has not come back for {self._settings.stuck_s:g} s"
            for caller in _callers(turn):
                if caller.streaming:
                    caller.end_stream(whole=False)
                else:
                    self._refuse(caller, Refused(500, f"the model failed: {said}"))
            # Who waits was not seen by the model: a connection that closes without an answer is asked elsewhere.
            for connection in list(self._connections.values()):
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_WR)
            print("the model's thread is here:", file=sys.stderr)
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
            print(f"error: {said}, so this replica ends", file=sys.stderr, flush=True)
            os._exit(EXIT_STUCK)

    # ---- the model's thread ----------------------------------------------------------------------------------------

    def serve(self) -> None:
        while not self._ended:
            now_s = time.monotonic()
            with self._lock:
                hold_s = self._line.hold_s(now_s)
                turn = None
                if not hold_s:
                    turn, late = self._line.take(now_s)
                    for call in late:
                        self._refuse(call.caller, Refused(504, "the request's deadline passed while it waited"))
                if turn is not None:
                    self._turn, self._turn_since_s = turn, now_s
                polls = self._model_polls
                self._model_sleeps = turn is None and not polls
            if turn is not None:
                self._compute(turn, now_s)
            elif polls:
                if not self._poll_once(hold_s or SWEEP_S) and not hold_s:
                    self._let_main_poll()  # nobody asks: no thread need wake for nothing
            elif not self._model_wakes.acquire(timeout=hold_s or None):
                self._model_sleeps = False

    def _compute(self, turn: Turn, began_s: float) -> None:
        match turn:
            case Task():
                self._do(turn)
                took_s = time.monotonic() - began_s
            case Stream():
                self._step(turn)
                took_s = time.monotonic() - began_s
            case _:
                took_s = self._predict(turn)
        with self._lock:
            self._turn = None
            self._short_turns = self._short_turns + 1 if took_s < SHORT_S else 0
            quick = self._short_turns >= SHORT_TURNS and self._stopping_since_s is None and not self._line.streams
            if quick == self._model_polls:
                return
            self._model_polls = quick
        if quick:
            os.eventfd_write(self._kick, 1)
        else:
            self._main_wakes.release()

    def _let_main_poll(self) -> None:
        with self._lock:
            self._model_polls = False
            self._short_turns = SHORT_TURNS - 1  # one quick turn is enough to have them back
        self._main_wakes.release()

    def _predict(self, batch: list[Piece]) -> float:
        """How long the model itself took, in seconds."""
        assert self._model.predict is not None
        began_s = time.perf_counter()
        outcomes = run_batch(self._model.predict, [piece.inputs for piece in batch])
        took_s = time.perf_counter() - began_s
        said: list[tuple[Call, int, str, bytes]] = []
        for piece, outcome in zip(batch, outcomes, strict=True):
            call = piece.call
            if call.take(piece.index, outcome):
                said.append((call, *answer_of(self._model, call, outcome)))
        size = sum(len(piece.inputs) for piece in batch)
        with self._lock:
            self._counts.batch(size, took_s)
            self._line.law.finished(size, took_s, self._line.inputs)
            for call, status, media_type, body in said:
                self._answer(call.caller, status, media_type, body)
        return took_s

    def _do(self, task: Task) -> None:
        """A request for a method of the model's own. What it answers may be a stream."""
        try:
            made = pieces_of(task.run(), self._model.answers, task.stream)
            if not isinstance(made, Iterator):
                with self._lock:
                    self._answer(task.caller, 200, *made)
                return
        except bodies.BadBody as error:
            self._refuse_locked(task.caller, Refused(400, str(error)))
            return
        except BaseException as error:  # a tenant's code may raise anything
            self._refuse_locked(task.caller, Refused(500, f"the model failed: {one_line(error)}"))
            return
        caller: Connection = task.caller  # type: ignore[assignment]
        stream = Stream(caller, made, lambda: caller.unsent_bytes < HIGH_WATER_BYTES)
        with self._lock:
            self._line.streams.append(stream)

    def _step(self, stream: Stream) -> None:
        """One piece of a stream, or its end."""
        caller: Connection = stream.caller  # type: ignore[assignment]
        piece, error, status = None, "", 500
        try:
            if caller.closed:
                close = getattr(stream.pieces, "close", None)
                if callable(close):
                    close()  # GeneratorExit inside, so that the model can clear up
            else:
                piece = next(stream.pieces, None)
                said = None if piece is None else piece_of(piece)
        except bodies.BadBody as raised:
            error, status = str(raised), 400
        except BaseException as raised:  # a tenant's code may raise anything
            error = f"the model failed: {one_line(raised)}"
        with self._lock:
            if caller.closed or error or piece is None:
                self._line.streams.remove(stream)
            if caller.closed:
                return
            if error and not caller.streaming:
                self._refuse(caller, Refused(status, error))
                return
            if not caller.streaming:
                self._counts.answered(200)
                media_type = said[0] if piece is not None and said is not None else EVENTS
                stream.media_type = media_type
                caller.begin_stream(media_type, close=self._stopping_since_s is not None)
            if piece is not None and said is not None and not error:
                caller.send_piece(said[1])
                return
            if error and stream.media_type == EVENTS:
                caller.send_piece(error_event(error))
            caller.end_stream(whole=not error)
            self._next(caller)

    # ---- sockets: by whoever polls ---------------------------------------------------------------------------------

    def _poll_once(self, timeout_s: float | None, *, main: bool = False) -> bool:
        """Whether anything happened. Of two threads that polled at the same time (the sockets have just changed hands)
        the one whose they are not leaves all as it is: the kernel tells the other too."""
        events = self._poll.poll(timeout_s)
        with self._lock:
            if main is self._model_polls:
                return True
            for descriptor, event in events:
                connection = self._connections.get(descriptor)
                if connection is not None:
                    self._on_connection(connection, event)
                elif descriptor in self._listeners:
                    self._accept(self._listeners[descriptor])
                elif descriptor == self._kick:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._kick)
                elif descriptor == self._signals.fileno():
                    self._on_signal()
            now_s = time.monotonic()
            if now_s - self._swept_s > SWEEP_S or self._stopping_since_s is not None:
                self._swept_s = now_s
                self._sweep(now_s)
            if self._model_sleeps and (self._line.waiting or self._line.streams or self._ended):
                self._model_sleeps = False
                self._model_wakes.release()
        return bool(events)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_A_TURN):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:  # nobody any more
                return
            except OSError:  # no descriptor left, perhaps: it is told of again at once, and must not keep a core busy
                time.sleep(ACCEPT_PAUSE_S)
                return
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[sock.fileno()] = Connection(sock, self._poll, self._budget, self._model.resend_safe)

    def _on_connection(self, connection: Connection, event: int) -> None:
        if event & select.EPOLLOUT:
            connection.flush()
        if event & ~select.EPOLLOUT and not connection.closed:
            connection.receive()
        if not connection.closed:
            self._next(connection)
        if connection.closed and self._connections.get(connection.descriptor) is connection:
            del self._connections[connection.descriptor]

    def _next(self, connection: Connection) -> None:
        """Take up what the connection has asked, until something must be waited for."""
        while not connection.closed and (request := connection.next_request()) is not None:
            self._counts.requests += 1
            busy_s = 0.0 if self._turn is None else time.monotonic() - self._turn_since_s
            try:
                answer = self._doors.take_up(connection, request, self._stopping_since_s is not None, busy_s)
            except Refused as refused:
                self._refuse(connection, refused)
            else:
                if answer is not None:
                    self._answer(connection, *answer)

    # ---- answers: under the lock -----------------------------------------------------------------------------------

    def _answer(self, caller: object, status: int, media_type: str, body: bytes) -> None:
        connection: Connection = caller  # type: ignore[assignment]
        self._counts.answered(status)
        if not connection.closed:
            connection.answer(status, media_type, body, close=self._stopping_since_s is not None)
            if connection.requests:
                self._next(connection)

    def _refuse(self, caller: object, refused: Refused) -> None:
        connection: Connection = caller  # type: ignore[assignment]
        self._counts.answered(refused.status)
        if not connection.closed:
            close = refused.close or self._stopping_since_s is not None
            connection.answer(refused.status, bodies.JSON, refused.body(), close=close)
            if connection.requests:
                self._next(connection)

    def _refuse_locked(self, caller: object, refused: Refused) -> None:
        with self._lock:
            self._refuse(caller, refused)

    # ---- time and the end ------------------------------------------------------------------------------------------

    def _on_signal(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._signals.recv(64)
        if self._stopping_since_s is None:
            self._stopping_since_s = time.monotonic()
            if self._model_polls:  # from here on the main thread does it
                self._model_polls = False
                self._main_wakes.release()

    def _sweep(self, now_s: float) -> None:
        """What is due: bodies that do not come, and the end."""
        for connection in list(self._connections.values()):
            since_s = connection.reading_since_s
            if since_s is not None and now_s - since_s > BODY_TIMEOUT_S:
                said = f"the request did not arrive within {BODY_TIMEOUT_S:.0f} s"
                connection.give_up_reading(Refused(408, said, close=True))
                self._next(connection)
            if connection.closed:
                self._connections.pop(connection.descriptor, None)
        if self._stopping_since_s is None or now_s - self._stopping_since_s < self._settings.linger_s:
            return
        for descriptor, listener in list(self._listeners.items()):
            self._poll.unregister(descriptor)
            listener.close()
            del self._listeners[descriptor]
        for descriptor, connection in list(self._connections.items()):
            if connection.idle:
                connection.close()
            if connection.closed:
                del self._connections[descriptor]
        if not self._connections and self._turn is None and not self._line.waiting:
            self._ended = True


def _callers(turn: Turn) -> list[Connection]:
    """Those of them who still wait for this turn."""
    all_of_them = [piece.call.caller for piece in turn] if isinstance(turn, list) else [turn.caller]
    waiting: list[Connection] = [each for each in dict.fromkeys(all_of_them) if not each.closed]  # type: ignore[misc]
    return [each for each in waiting if each.current is not None]


def _heard_by_wakeup(number: int, frame: FrameType | None) -> None:
    """The wake-up socket has the signal's number already; without a handler the default action would be taken."""
