"""The main job as one command: stages that remember what they have done, and the summary that the report shows."""
