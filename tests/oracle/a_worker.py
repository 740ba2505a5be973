"""A worker for tests: it runs the source that it is sent and answers with `answer`."""

from autograder.oracle import wire


def serve(connection):
    names = {"connection": connection}
    while True:
        source = wire.recv(connection)
        try:
            exec(source, names)
            answer = names.pop("answer", None)
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        wire.send(connection, answer)
