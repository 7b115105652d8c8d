"""Processes that import the heavy libraries, and how the app talks to them.

``bootstrap.py`` starts any module of ``engine`` under any interpreter,
``serve.py`` is the loop inside a worker, ``client.py`` the app's end of it.
"""
