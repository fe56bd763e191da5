"""Starlette's StaticFiles for the folder in ROOT, as an application for granian and uvicorn. A peer."""

import os

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

app = Starlette(routes=[Mount("/static/images", StaticFiles(directory=os.environ["ROOT"]))])
