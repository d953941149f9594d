"""Help: serves the users' documentation, rendered at hub start, to users who are logged in."""

from __future__ import annotations

from jupyterhub.handlers.base import BaseHandler
from tornado import web

from spawner.hub.handlers.api_base import Route
from spawner.hub.views.help import FRONT_PAGE, PAGES


class HelpPageHandler(BaseHandler):  # type: ignore[misc]
    """``/hub/help`` and ``/hub/help/<name>``."""

    @web.authenticated
    async def get(self, name: str = FRONT_PAGE) -> None:
        """Render the page ``name``."""
        self.finish(await self.render_template("help.html", page=name))


def help_handlers() -> list[Route]:
    """Return the routes, below the hub's prefix."""
    names = "|".join(page for page in PAGES if page != FRONT_PAGE)
    return [("/help", HelpPageHandler, {}), (f"/help/({names})", HelpPageHandler, {})]
