"""The HTTP door: OpenAPI, tokens and roles, and nothing else. `scheduler.api.app.create_app` makes the application."""
