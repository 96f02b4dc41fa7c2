"""Memory that computes, command by command: streams of commands, when each may issue, and what they add up to."""
