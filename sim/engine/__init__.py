"""The engine: programs, their readable definition, the compiled run, traces and critical paths."""
