"""``python -m cas_metric.page RUN``: serve the page to this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cas_metric.errors import CasError, MissingDependency

#: No other machine reaches it.
HOST = "127.0.0.1"


def main(words: Sequence[str] | None = None) -> int:
    """Serve until interrupted; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cas_metric.page",
        description="Score an uploaded pair of images in the browser, as those of RUN were scored.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a `cas score` run")
    parser.add_argument("--domain", help="checklists, where their name in the run leads nowhere")
    parser.add_argument("--encoder", help="the encoder of the run, where its name leads nowhere")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--offline", action="store_true", help="never use the network")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free")
    options = parser.parse_args(words)
    try:
        serve(options)
    except CasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def serve(options: argparse.Namespace) -> None:
    """Open the run and answer requests.

    Raises:
        MissingDependency: The extra ``page`` is not installed.
    """
    try:
        import python_multipart  # noqa: F401 - Starlette asks for it when the first form comes
        import uvicorn

        from cas_metric.page.app import create_app
    except ModuleNotFoundError as error:
        raise MissingDependency(str(error.name), extra="page", purpose="the page") from error
    from cas_metric.page.pair import Pairs
    from cas_metric.study.serving import bind, configure

    listener = bind(HOST, options.port)
    try:
        pairs = Pairs.of(
            options.run, domain=options.domain, encoder=options.encoder, device=options.device,
            offline=options.offline,
        )  # fmt: skip
        server = uvicorn.Server(configure(create_app(pairs)))
        print(f"http://{HOST}:{listener.getsockname()[1]}   (Ctrl+C ends it)", flush=True)
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # how it is meant to end
    finally:
        listener.close()


if __name__ == "__main__":
    sys.exit(main())
