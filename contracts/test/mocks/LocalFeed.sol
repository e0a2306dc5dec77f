// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice A price feed for local chains and tests, with Chainlink's AggregatorV3Interface, that answers what its deployer
/// told it. LOCAL CHAINS ONLY: it is nobody's price.
contract LocalFeed {
    error NotOwner();

    /// @notice Who may set answers: the deployer.
    address public immutable OWNER;
    /// @notice Decimals of the answers.
    uint8 public decimals;
    /// @notice What is priced, such as "ETH / USD".
    string public description;
    /// @notice As Chainlink's proxies have it.
    // forge-lint: disable-next-line(screaming-snake-case-const)
    uint256 public constant version = 4;

    uint80 private _roundId;
    uint80 private _answeredInRound;
    int256 private _answer;
    uint256 private _updatedAt;

    constructor(uint8 decimals_, string memory description_, int256 answer_) {
        OWNER = msg.sender;
        decimals = decimals_;
        description = description_;
        _set(1, answer_, block.timestamp, 1);
    }

    modifier onlyOwner() {
        require(msg.sender == OWNER, NotOwner());
        _;
    }

    /// @notice A new round with this answer, dated now.
    function set(int256 answer_) external onlyOwner {
        _set(_roundId + 1, answer_, block.timestamp, _roundId + 1);
    }

    /// @notice Any round at all, to see what comes of it.
    function setRound(uint80 roundId_, int256 answer_, uint256 updatedAt_, uint80 answeredInRound_) external onlyOwner {
        _set(roundId_, answer_, updatedAt_, answeredInRound_);
    }

    /// @notice Other decimals, which a feed never gets.
    function setDecimals(uint8 decimals_) external onlyOwner {
        decimals = decimals_;
    }

    /// @notice The newest round, as Chainlink's feeds tell it.
    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        return (_roundId, _answer, _updatedAt, _updatedAt, _answeredInRound);
    }

    function _set(uint80 roundId_, int256 answer_, uint256 updatedAt_, uint80 answeredInRound_) private {
        (_roundId, _answer, _updatedAt, _answeredInRound) = (roundId_, answer_, updatedAt_, answeredInRound_);
    }
}
