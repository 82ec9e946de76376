"""crossroads: matched comparison of vision-language-action and world-action robot policies."""
