"""Real RabbitMQ, PostgreSQL and S3 for the tests: private, on free loopback ports, gone with the tests."""
