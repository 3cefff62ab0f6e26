"""What the project adds to lm-eval's own tasks: functions that restore a board's procedure, and data that it ships."""
