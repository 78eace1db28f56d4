"""How one attempt is executed: worker, zygote, guard and child; settings, logs, telemetry, devices."""
