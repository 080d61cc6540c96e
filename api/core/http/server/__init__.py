"""How gunicorn serves the application; `gunicorn.conf.py` puts it in place."""
