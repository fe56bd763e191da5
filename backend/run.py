"""Starts the backend on API_HOST:API_PORT: `python run.py`."""

from __future__ import annotations

import os
import sys

import checkout

checkout.enter()

import uvicorn

import rehost

if __name__ == "__main__":
    try:
        settings = rehost.load_settings(checkout.BACKEND, os.environ, {})
    except rehost.OperatorError as error:
        checkout.stop(error.translated(), error.exit_status)
    sys.path.insert(0, str(checkout.BACKEND))
    with rehost.logging_to(sys.stderr, None, verbose=True):
        uvicorn.run("app.main:app", host=settings.api_host, port=settings.api_port)
