"""The SDK: submit and follow runs, reach models and endpoints, over HTTP; sync and async on one core."""
