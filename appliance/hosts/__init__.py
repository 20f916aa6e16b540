"""What runs inside an engine process. Never imported by the gateway."""
