"""Sign-up pages: the form, and the page that waits for the approval and then opens the workbench.

The browser that chose the password keeps a signed cookie. It is worth a log-in once an admin has approved the account,
and nothing after another password, a refusal, or a week.
"""

from __future__ import annotations

from http import HTTPStatus

from tornado import web

from spawner.hub.approval import ApprovedSignUp, SignUpProof, TooManyAttemptsError
from spawner.hub.handlers.accounts import AccountHandler
from spawner.hub.handlers.api_base import GetWorkbench, Route

COOKIE = "workbench-sign-up"
COOKIE_DAYS = 7


class SignUpPageHandler(AccountHandler):
    """``/signup``."""

    async def get(self) -> None:
        """Show the form."""
        self.finish(await self.render_template("signup.html", errors={}, username=""))

    async def post(self) -> None:
        """Store a sign-up, or show the form again with an error at each field and the typed name."""
        name, password, again = self.read_fields(
            "username", "signup_password", "signup_password_confirmation"
        )
        try:
            errors = await self.authenticator.sign_up(self, name, password, again)
        except TooManyAttemptsError as error:
            self.set_status(error.status_code)
            for header, value in error.headers.items():
                self.set_header(header, value)
            page = {"errors": {"form": error.jupyterhub_message}, "username": name}
            self.finish(await self.render_template("signup.html", **page))
            return
        if errors:
            await self.finish_form("signup.html", errors, username=name)
            return
        account = self.authenticator.normalize_username(name)
        self._set_cookie(
            COOKIE,
            f"{account}:{self.authenticator.stamp(account)}",
            path=f"{self.hub.base_url}signup",
            expires_days=COOKIE_DAYS,
        )
        # a reload of the next page sends no form again
        self.redirect(f"{self.hub.base_url}signup/waiting", status=HTTPStatus.SEE_OTHER.value)


class SignUpWaitHandler(AccountHandler):
    """``/signup/waiting``: waits for the approval; ``/signup/state`` has its state as JSON."""

    async def get(self, kind: str) -> None:
        """Show the state of the sign-up; log in after the approval."""
        name = self._signed_up_name()
        state = self._state_of(name)
        if kind == "state":
            self.set_header("Content-Type", "application/json")
            self.finish({"state": state})
        elif state == "approved":
            await self._log_in(name)
        else:
            self.finish(
                await self.render_template("signup_waiting.html", state=state, account=name)
            )

    async def _log_in(self, name: str) -> None:
        user = await self.login_user({"username": name, "proof": SignUpProof(name)})
        if user is None:
            raise web.HTTPError(HTTPStatus.FORBIDDEN.value, "This account may not log in.")
        self._jupyterhub_user = user
        self.clear_cookie(COOKIE, path=f"{self.hub.base_url}signup")
        self.redirect(self.get_next_url(user))

    def _signed_up_name(self) -> str:
        """Return the account that this browser signed up, empty if there is none any more."""
        value = (self.get_secure_cookie(COOKIE, max_age_days=COOKIE_DAYS) or b"").decode()
        name, _, stamp = value.partition(":")
        return name if name and self.authenticator.stamp(name) == stamp else ""

    def _state_of(self, name: str) -> str:
        if not name:
            return "gone"
        return "waiting" if self.authenticator.is_unapproved(name) else "approved"


def sign_up_handlers(authenticator: type, get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes of sign-up, if ``authenticator`` has it."""
    if not issubclass(authenticator, ApprovedSignUp):
        return []
    options = {"get_workbench": get_workbench}
    return [
        (r"/signup", SignUpPageHandler, options),
        (r"/signup/(waiting|state)", SignUpWaitHandler, options),
    ]
