"""The routes of the chat page: answers as they grow, and conversations as files."""

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from starlette.datastructures import State

from workbench.errors import NotFoundError, TooManyRequestsError, UnauthorizedError
from workbench.service import Workbench
from workbench.ui.answer import Answer
from workbench.ui.chat_flow import Ask, ChatFlow, Update
from workbench.ui.render.chat import refused

MEDIA_TYPES = {"json": "application/json", "markdown": "text/markdown; charset=utf-8"}
SUFFIXES = {"json": "json", "markdown": "md"}


def chat_router(workbench: Workbench, flow: ChatFlow) -> APIRouter:
    """`POST /chat/answer` and `GET /chat/ID/export`."""
    router = APIRouter(prefix="/chat", include_in_schema=False)

    @router.post("/answer")
    async def answer(ask: Ask, request: Request) -> StreamingResponse:
        """Updates of the page, a line of JSON each; a client that leaves has its answer aborted."""
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            lines(ask, request.state), media_type="application/x-ndjson", headers=headers
        )

    async def lines(ask: Ask, state: State) -> AsyncIterator[str]:
        def on_end(answers: Sequence[Answer]) -> None:
            # For the access log.
            state.model = ", ".join(answer.model for answer in answers)
            state.tokens = sum(answer.completion_tokens for answer in answers)
            admission.charge(state.tokens + sum(answer.prompt_tokens for answer in answers))

        try:
            with workbench.access.admit(state.caller) as admission:
                async with aclosing(flow.answer(ask, on_end)) as updates:
                    async for update in updates:
                        yield line(update)
        except (TooManyRequestsError, UnauthorizedError) as error:
            yield line({"turns": refused(ask.text, ask.models, str(error)), "draft": ask.text})

    def line(update: Update) -> str:
        return json.dumps(update, separators=(",", ":")) + "\n"

    @router.get("/{conversation}/export")
    async def export(conversation: int, form: Literal["json", "markdown"] = "json") -> Response:
        try:
            view = await workbench.conversations.get(conversation)
            text = await workbench.conversations.export(conversation, form)
        except NotFoundError as error:
            return PlainTextResponse(str(error), 404)
        name = re.sub(r"[^A-Za-z0-9]+", "-", view.title).strip("-").lower() or "conversation"
        disposition = f'attachment; filename="{name[:60]}.{SUFFIXES[form]}"'
        return Response(text, media_type=MEDIA_TYPES[form], headers={"Content-Disposition": disposition})

    return router
