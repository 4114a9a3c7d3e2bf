"""Step 4: the churn model. Reads `features.*`, writes `ml.*`; the same code serves the pipeline and a table of your own.

Heavy imports (XGBoost, scikit-learn, matplotlib, MLflow) stay inside the functions that need them.
"""
