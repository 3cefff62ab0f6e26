"""The smoke suite's tasks and data: six task types of Open LLM Leaderboard v2 over questions made here."""
