"""What `imgscan doctor` looks at: each module gives findings, and none prints."""
