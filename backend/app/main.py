"""The application for servers started by hand: `uvicorn app.main:app`."""

import checkout

checkout.enter()

import os

import rehost
from app.site import create_app

try:
    app = create_app(rehost.load_settings(checkout.BACKEND, os.environ, {}))
except rehost.OperatorError as error:
    checkout.stop(str(error), error.exit_status)
