"""``dashboard``: optuna-dashboard on the home folder's studies, on this machine only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Annotated, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import typer

from mnist_lab.cli.browser import OpenPage, open_when_served
from mnist_lab.cli.options import add

if TYPE_CHECKING:
    from mnist_lab.settings import Settings

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
HOST, DEFAULT_PORT = "127.0.0.1", 8080


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    add(app, "dashboard", dashboard_command)


def dashboard_command(
    port: Annotated[int, typer.Option(help="On this machine only.")] = DEFAULT_PORT,
    open_page: OpenPage = False,
) -> None:
    """Serve optuna-dashboard on the home folder's studies.

    On this machine only, and beside a running sweep, too. Its extra must be installed:
    pip install 'mnist-lab[dashboard]'

    Example: mnist-lab dashboard --open
    """
    from mnist_lab.errors import ConfigurationError, UsageError
    from mnist_lab.settings import Settings

    try:
        import optuna_dashboard
    except ImportError:
        raise ConfigurationError(
            "optuna-dashboard is not installed.",
            next_step="Type: pip install 'mnist-lab[dashboard]'",
        ) from None
    settings = Settings()
    application = require_local(optuna_dashboard.wsgi(open_storage(settings)), port)
    try:
        server = make_server(HOST, port, application, _Server, _Quiet)
    except OSError as error:
        raise UsageError(
            f"Port {port} cannot be used: {error.strerror}.",
            next_step=f"Type: mnist-lab dashboard --port {port + 1}",
        ) from None
    address = f"http://{HOST}:{port}/dashboard"
    typer.echo(
        f"optuna-dashboard shows the studies of {settings.root} at {address} (Ctrl-C ends it)"
    )
    if open_page:
        open_when_served(address)
    with server:
        server.serve_forever()


def open_storage(settings: Settings) -> Any:
    """Open the studies as the dashboard is to show them, each with a note of what was found."""
    from mnist_lab.report import describe_study
    from mnist_lab.study import ReadableStorage, connect, open_studies

    storage = connect(settings, ReadableStorage)
    storage.notes = {study.name: describe_study(study) for study in open_studies(settings)}  # type: ignore[attr-defined]
    return storage


def require_local(application: Application, port: int) -> Application:
    """Refuse requests by another name than this machine's: a page elsewhere could rebind its own."""
    names = {f"{HOST}:{port}", f"localhost:{port}"}

    def checked(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environment.get("HTTP_HOST") in names:
            return application(environment, start)
        start("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"This dashboard answers to localhost only."]

    return checked


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Print nothing for each request."""
