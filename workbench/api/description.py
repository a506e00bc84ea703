"""`/openapi.json` and `/docs`: one description of all that clients may call.

What models answer is described by vLLM's own routes; the rest by Workbench's. The page that shows it loads
nothing from other hosts: vLLM brings the files of Swagger UI along.
"""

import asyncio
import copy
import json
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse

from workbench import __version__
from workbench.api.openai import PATHS
from workbench.service import Workbench

ABOUT = """The API of Workbench. `/v1` is OpenAI's: name a model that `GET /v1/models` lists, and it is
switched to if need be. `/admin` steers the pool. Where keys are required, send
`Authorization: Bearer wb-…`."""
SCHEMAS = "#/components/schemas/"
ERROR = {"$ref": SCHEMAS + "ErrorAnswer"}
GATEWAY_ERRORS = {
    400: "The request can't be used; the message says why.",
    401: "A key is required.",
    403: "The key may not do this.",
    404: "There is no such model.",
    409: "The model is not downloaded.",
    413: "The body is too large.",
    422: "The model can't take the request.",
    429: "A limit is reached; Retry-After says when to come again.",
    500: "The model can't be loaded; the message says why.",
    501: "The model does not support this.",
    502: "The worker that ran the request died.",
    503: "The model is not there yet; Retry-After says when to come again.",
    507: "No device can hold the model.",
}
"""What the way to a model adds to the answers of vLLM's routes."""
HEADERS = (
    {
        "name": "X-Workbench-Progress",
        "in": "header",
        "description": "1 for an event at each stage of a switch; for streams.",
        "schema": {"type": "string", "enum": ["0", "1"]},
    },
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": "The request's id in logs, records and traces; one is made where none is sent.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    },
)


def mount_description(app: FastAPI, workbench: Workbench) -> None:
    """Serve `/openapi.json` and `/docs`; call it after all other routes of the API are on `app`."""
    cache: dict[str, bytes] = {}

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        if not cache:
            models = await workbench.gateway.description()
            description = await asyncio.to_thread(describe, app, models)
            cache["json"] = json.dumps(description).encode()
        return Response(cache["json"], media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="Workbench API",
            swagger_js_url="docs/swagger-ui-bundle.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url="favicon.ico",
        )

    @app.get("/docs/{name}", include_in_schema=False)
    async def docs_file(name: str) -> Response:
        if name not in ("swagger-ui-bundle.js", "swagger-ui.css"):
            return Response(status_code=404)
        return FileResponse(await workbench.gateway.docs_folder() / name)


def describe(app: FastAPI, models: dict[str, Any]) -> dict[str, Any]:
    """The description of `app`'s routes and, below `PATHS`, of the routes that models answer."""
    own = get_openapi(title="Workbench", version=__version__, description=ABOUT, routes=app.routes)
    schemas = own.setdefault("components", {}).setdefault("schemas", {})
    renamed = {name: f"Model{name}" if name in schemas else name for name in models["components"]["schemas"]}
    models = _renamed(models, {SCHEMAS + old: SCHEMAS + new for old, new in renamed.items()})
    schemas.update({renamed[name]: schema for name, schema in models["components"]["schemas"].items()})
    for path in PATHS:
        if path in models["paths"]:
            own["paths"][path] = _as_served(models["paths"][path])
    own["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    own["security"] = [{"key": []}, {}]
    return own


def _as_served(operations: dict[str, Any]) -> dict[str, Any]:
    """vLLM's description of a path with the answers that Workbench may give before it."""
    served = copy.deepcopy(operations)
    for operation in served.values():
        operation["tags"] = ["OpenAI"]
        operation["parameters"] = [*operation.get("parameters", ()), *HEADERS]
        for status, text in GATEWAY_ERRORS.items():
            operation["responses"][str(status)] = {
                "description": text,
                "content": {"application/json": {"schema": ERROR}},
            }
    return served


def _renamed(value: Any, names: dict[str, str]) -> Any:
    match value:
        case dict():
            return {
                key: names.get(part, part) if key == "$ref" else _renamed(part, names)
                for key, part in value.items()
            }
        case list():
            return [_renamed(part, names) for part in value]
        case _:
            return value
