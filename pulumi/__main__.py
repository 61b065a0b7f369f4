"""`pulumi up` runs this for every stack. What is made where: README.md beside this file."""

from leaderboard_infra import program

program.run()
