"""The seam to the broker: commands by Celery, events and signals by kombu, over RabbitMQ or embedded SQLite."""
