"""People in the loop: the rating page and the chat."""
