"""What every command runs on: signals, console, memory, versions, staging."""
