"""The page: Chat, Pool and Models. Only this package imports gradio, and importing the package does not."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # Gradio reads it when it is imported
